// Command dockerignore says which paths of a directory BuildKit's client sends to a build.
//
// Each line of its input is a JSON object with the content of .dockerignore and the directory; each line of its output
// has the paths, in the order in which they are sent, or why the build fails.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io/fs"
	"log"
	"os"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
)

type question struct {
	Ignore string `json:"ignore"`
	Root   string `json:"root"`
}

type answer struct {
	Paths []string `json:"paths"`
	Error string   `json:"error"`
}

func sent(asked question) ([]string, error) {
	patterns, err := ignorefile.ReadAll(strings.NewReader(asked.Ignore))
	if err != nil {
		return nil, err
	}
	paths := []string{}
	options := &fsutil.FilterOpt{ExcludePatterns: patterns}
	err = fsutil.WalkDir(context.Background(), asked.Root, options, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	return paths, err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	output := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		paths, err := sent(asked)
		result := answer{Paths: paths}
		if err != nil {
			result = answer{Error: err.Error()}
		}
		if err := output.Encode(result); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
