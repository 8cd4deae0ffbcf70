"""The only package that knows an IPython shell."""
