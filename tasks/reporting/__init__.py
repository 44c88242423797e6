"""What a person looks at: the report, the pictures, the terminal."""
