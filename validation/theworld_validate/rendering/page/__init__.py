"""The HTML form of a report: one file without network, with JavaScript for sorting and filtering alone."""

from theworld_validate.rendering.page.render import render_html

__all__ = ["render_html"]
