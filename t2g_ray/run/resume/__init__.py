"""What a resume needs: the folder to itself, and a checkpoint that means the same run."""
