"""Colours, type and spacing.

Fonts ship with Gradio: the app asks no other server for anything. Only weights 400 and 700 are used, because
the semi-bold files that Gradio ships lack most of the alphabet; a browser takes 700 where 600 is asked for.
"""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

LAGOON = colors.Color(
    name="lagoon",
    c50="#effaf8",
    c100="#d6f2ed",
    c200="#aee4dc",
    c300="#7acfc5",
    c400="#45b3a9",
    c500="#1f978e",
    c600="#0f7a74",
    c700="#0d625e",
    c800="#0e4e4c",
    c900="#0f413f",
    c950="#042625",
)
AMBER = colors.Color(
    name="amber-light",
    c50="#fff8e8",
    c100="#ffedc2",
    c200="#ffdc8a",
    c300="#fcc54e",
    c400="#f0ac25",
    c500="#d8900f",
    c600="#b3700a",
    c700="#8c540d",
    c800="#734412",
    c900="#613914",
    c950="#381d07",
)
INK = colors.Color(
    name="ink",
    c50="#f6f8f8",
    c100="#ecf0f0",
    c200="#dce3e4",
    c300="#c2cdcf",
    c400="#93a3a7",
    c500="#667a7f",
    c600="#4c5e63",
    c700="#37464b",
    c800="#1f2a2e",
    c900="#151d20",
    c950="#0c1214",
)


class Studio(gr.themes.Base):
    """A quiet studio: paper and ink, one lagoon accent, amber for the crown."""

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
                fonts.LocalFont("Montserrat", weights=(700,)),  # for headings, see style.css
                "ui-sans-serif",
                "system-ui",
                "sans-serif",
            ),
            font_mono=(fonts.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"),
        )
        self.name = "studio"
        super().set(
            body_background_fill="*neutral_50",
            body_background_fill_dark="*neutral_950",
            body_text_color="*neutral_800",
            body_text_color_dark="*neutral_100",
            body_text_color_subdued="*neutral_500",
            body_text_color_subdued_dark="*neutral_400",
            background_fill_primary="white",
            background_fill_primary_dark="*neutral_900",
            background_fill_secondary="*neutral_50",
            background_fill_secondary_dark="*neutral_800",
            border_color_primary="*neutral_200",
            border_color_primary_dark="*neutral_700",
            border_color_accent="*primary_300",
            border_color_accent_dark="*primary_600",
            color_accent="*primary_600",
            color_accent_soft="*primary_50",
            color_accent_soft_dark="*primary_900",
            link_text_color="*primary_700",
            link_text_color_dark="*primary_300",
            # Blocks sit flat on the panel: the panel draws the card, not every field.
            block_background_fill="transparent",
            block_background_fill_dark="transparent",
            block_border_width="0px",
            block_padding="0px",
            block_shadow="none",
            block_label_background_fill="transparent",
            block_label_background_fill_dark="transparent",
            block_label_border_width="0px",
            block_label_text_color="*neutral_600",
            block_label_text_color_dark="*neutral_300",
            block_title_text_color="*neutral_700",
            block_title_text_color_dark="*neutral_200",
            block_title_text_weight="600",
            block_title_text_size="*text_sm",
            block_info_text_color="*neutral_500",
            block_info_text_color_dark="*neutral_400",
            block_radius="*radius_lg",
            layout_gap="*spacing_xxl",
            form_gap_width="16px",
            # Fields
            input_background_fill="white",
            input_background_fill_dark="*neutral_950",
            input_border_color="*neutral_300",
            input_border_color_dark="*neutral_700",
            input_border_color_focus="*primary_500",
            input_border_color_focus_dark="*primary_400",
            input_border_width="1px",
            input_shadow="none",
            input_shadow_focus="0 0 0 3px *primary_100",
            input_shadow_focus_dark="0 0 0 3px *primary_900",
            input_radius="*radius_md",
            input_placeholder_color="*neutral_400",
            input_placeholder_color_dark="*neutral_500",
            slider_color="*primary_600",
            slider_color_dark="*primary_400",
            # Buttons
            button_border_width="1px",
            button_large_radius="*radius_md",
            button_medium_radius="*radius_md",
            button_small_radius="*radius_md",
            button_large_text_weight="600",
            button_medium_text_weight="600",
            button_small_text_weight="600",
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_hover="*primary_700",
            button_primary_background_fill_dark="*primary_600",
            button_primary_background_fill_hover_dark="*primary_500",
            button_primary_text_color="white",
            button_primary_border_color="transparent",
            button_primary_border_color_dark="transparent",
            button_primary_shadow="0 1px 2px rgb(4 38 37 / 0.18)",
            button_secondary_background_fill="white",
            button_secondary_background_fill_hover="*neutral_100",
            button_secondary_background_fill_dark="*neutral_800",
            button_secondary_background_fill_hover_dark="*neutral_700",
            button_secondary_border_color="*neutral_300",
            button_secondary_border_color_dark="*neutral_600",
            button_secondary_text_color="*neutral_800",
            button_secondary_text_color_dark="*neutral_100",
            button_cancel_background_fill="white",
            button_cancel_background_fill_hover="#fdf0ee",
            button_cancel_background_fill_dark="*neutral_800",
            button_cancel_background_fill_hover_dark="#3a2422",
            button_cancel_border_color="#d9796b",
            button_cancel_border_color_dark="#a5574b",
            button_cancel_text_color="#ab3a2a",
            button_cancel_text_color_dark="#f4a598",
        )
