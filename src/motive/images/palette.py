"""The colours of what is drawn, RGB."""

WHITE = (255, 255, 255)
INK = (20, 20, 20)
GREY = (110, 110, 110)
LIGHT_GREY = (190, 190, 190)
BLUE = (40, 90, 170)
