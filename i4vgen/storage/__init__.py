"""Writes runs to disk, packs them, reads them back and stores them on the server."""
