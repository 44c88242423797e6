"""From files in any standard layout to texts with their classes or spans."""
