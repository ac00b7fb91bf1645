"""The app's own components, each a small class with template.html, style.css and, if needed, script.js."""
