"""Task data: the tables shipped with the project, the tasks built from them, and prompt texts."""
