"""The command line, and the composition root of the server: settings become objects here and nowhere else."""
