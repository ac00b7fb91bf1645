"""Colours, type and spacing of the page.

Fonts ship with Gradio, so the page loads nothing from other servers. Only weights 400 and 700 are used,
because Gradio's semi-bold files lack most of the alphabet; browsers show 700 for 600.
"""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes


def palette(name: str, shades: str) -> colors.Color:
    """Makes a colour from its eleven shades, 50 to 950, separated by spaces."""
    return colors.Color(*shades.split(), name=name)


LAGOON = palette(
    "lagoon", "#effaf8 #d6f2ed #aee4dc #7acfc5 #45b3a9 #1f978e #0f7a74 #0d625e #0e4e4c #0f413f #042625"
)
AMBER = palette(
    "amber-light", "#fff8e8 #ffedc2 #ffdc8a #fcc54e #f0ac25 #d8900f #b3700a #8c540d #734412 #613914 #381d07"
)
INK = palette("ink", "#f6f8f8 #ecf0f0 #dce3e4 #c2cdcf #93a3a7 #5d7075 #4c5e63 #37464b #1f2a2e #151d20 #0c1214")


COLOURS = {
    "body_background_fill": ("*neutral_50", "*neutral_950"),
    "body_text_color": ("*neutral_800", "*neutral_100"),
    "body_text_color_subdued": ("*neutral_500", "*neutral_400"),
    "background_fill_primary": ("white", "*neutral_900"),
    "background_fill_secondary": ("*neutral_50", "*neutral_800"),
    "border_color_primary": ("*neutral_200", "*neutral_700"),
    "border_color_accent": ("*primary_300", "*primary_600"),
    "color_accent_soft": ("*primary_50", "*primary_900"),
    "link_text_color": ("*primary_700", "*primary_300"),
    "block_background_fill": ("transparent", "transparent"),
    "block_label_background_fill": ("transparent", "transparent"),
    "block_label_text_color": ("*neutral_600", "*neutral_300"),
    "block_title_text_color": ("*neutral_700", "*neutral_200"),
    "block_info_text_color": ("*neutral_500", "*neutral_400"),
    "input_background_fill": ("white", "*neutral_950"),
    "input_border_color": ("*neutral_300", "*neutral_700"),
    "input_border_color_focus": ("*primary_500", "*primary_400"),
    "input_shadow_focus": ("0 0 0 3px *primary_100", "0 0 0 3px *primary_900"),
    "input_placeholder_color": ("*neutral_500", "*neutral_400"),
    "slider_color": ("*primary_600", "*primary_400"),
    "button_primary_background_fill": ("*primary_600", "*primary_600"),
    "button_primary_background_fill_hover": ("*primary_700", "*primary_700"),
    "button_primary_border_color": ("transparent", "transparent"),
    "button_secondary_background_fill": ("white", "*neutral_800"),
    "button_secondary_background_fill_hover": ("*neutral_100", "*neutral_700"),
    "button_secondary_border_color": ("*neutral_300", "*neutral_600"),
    "button_secondary_text_color": ("*neutral_800", "*neutral_100"),
    "button_cancel_background_fill": ("white", "*neutral_800"),
    "button_cancel_background_fill_hover": ("#fdf0ee", "#3a2422"),
    "button_cancel_border_color": ("#d9796b", "#a5574b"),
    "button_cancel_text_color": ("#ab3a2a", "#f4a598"),
}
"""Colours in light and dark mode."""

SHAPES = {
    "color_accent": "*primary_600",
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_label_border_width": "0px",
    "block_title_text_weight": "600",
    "block_title_text_size": "*text_sm",
    "block_radius": "*radius_lg",
    "layout_gap": "*spacing_xxl",
    "form_gap_width": "16px",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_radius": "*radius_md",
    "button_border_width": "1px",
    "button_large_radius": "*radius_md",
    "button_medium_radius": "*radius_md",
    "button_small_radius": "*radius_md",
    "button_large_text_weight": "600",
    "button_medium_text_weight": "600",
    "button_small_text_weight": "600",
    "button_primary_text_color": "white",
    "button_primary_shadow": "0 1px 2px rgb(4 38 37 / 0.18)",
}
"""Widths, spacing, type, and colours for both modes. Blocks have no frames: the panels draw the cards."""


class Studio(gr.themes.Base):
    """The studio's theme: neutral colours, one teal accent, and amber for the best candidate."""

    def __init__(self) -> None:
        super().__init__(
            primary_hue=LAGOON,
            secondary_hue=AMBER,
            neutral_hue=INK,
            spacing_size=sizes.spacing_md,
            radius_size=sizes.radius_lg,
            text_size=sizes.text_md,
            font=(
                fonts.LocalFont("IBM Plex Sans", weights=(400, 700)),
                fonts.LocalFont("Montserrat", weights=(700,)),  # for headings (style.css)
                "ui-sans-serif",
                "system-ui",
                "sans-serif",
            ),
            font_mono=(fonts.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"),
        )
        self.name = "studio"
        dark = {f"{name}_dark": colour for name, (_, colour) in COLOURS.items()}
        super().set(**{name: colour for name, (colour, _) in COLOURS.items()}, **dark, **SHAPES)
