"""How each task is computed: one module a task, imported by the child when its first job comes."""
