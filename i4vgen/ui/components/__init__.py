"""Components of our own: template.html, style.css and script.js behind a small class each."""
