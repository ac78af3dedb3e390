"""The GPU worker: an agent that talks to the service and a child process that runs pipelines."""
