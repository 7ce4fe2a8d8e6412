"""Made-up students and a night of their answers: what `scorefold demo` runs on."""
