"""The `t2g` command: what people type -> runs, tables, exit codes."""
