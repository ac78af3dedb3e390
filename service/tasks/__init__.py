"""What can be generated: one file a task with its typed params, and the catalogue of models."""
