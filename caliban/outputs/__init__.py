"""What a job leaves behind: its output in files of this machine and in the store, and the last error in it."""
