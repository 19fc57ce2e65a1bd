"""The front end with a window: pygame in, pictures out."""
