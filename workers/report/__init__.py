"""Pages for people who look once a morning: one HTML file, nothing from outside, no student's words."""
