"""Models by name: the catalogue, loading, folders of models, and portable names."""
