"""What a generated record is made of: texts, graphs, names, and varied copies."""
