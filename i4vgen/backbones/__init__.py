"""The video models, each a subclass of `base.Backbone`, and the code that they share."""
