"""What a contact sheet and a page that shows it agree on."""

#: Alpha of paper and letters of a contact sheet; pictures have 255. Nobody sees the difference, and a dark page can
#: turn paper and letters to its own colours without touching a picture.
PAPER_ALPHA = 254
