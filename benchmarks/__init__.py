"""What is measured, and how: one script a claim; results/ has the figures."""
