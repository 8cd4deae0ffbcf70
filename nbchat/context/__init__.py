"""Context that a prompt may carry: values, tables, images, files and cells."""
