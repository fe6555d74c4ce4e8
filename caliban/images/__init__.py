"""What a job runs: container specs, Dockerfiles, build contexts, and the Docker Engine that makes images of them."""
