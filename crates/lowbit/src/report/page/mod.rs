//! A page of one file: HTML with its style, its script and its pictures.

pub(in crate::report) mod png;
pub(in crate::report) mod text;

use super::table::{Alignment, Table};
use text::escaped;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A picture, with the name of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The name, without `.svg`.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// The picture.
    pub svg: String,
}

/// A table, with the name of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTable {
    /// The name, without `.csv`.
    pub name: String,
    /// The table.
    pub table: Table,
}

/// A part of a page.
pub(in crate::report) struct Section {
    /// What links call it.
    pub(in crate::report) id: &'static str,
    /// Its heading.
    pub(in crate::report) name: &'static str,
    /// What it holds.
    pub(in crate::report) html: String,
}

/// The whole page; the title is escaped already.
pub(in crate::report) fn document(title: &str, sections: &[Section]) -> String {
    let links = sections
        .iter()
        .map(|part| format!("<a href=\"#{}\">{}</a>", part.id, part.name));
    let links: String = links.collect();
    let first = sections.first().map_or("", |part| part.id);
    let parts = sections.iter().map(|Section { id, name, html }| {
        format!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\"><h2 id=\"{id}-title\">{name}</h2>\n{html}</section>\n"
        )
    });
    let parts: String = parts.collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#{first}\">To the content</a>\n\
         <header><h1>{title}</h1>\n<nav aria-label=\"Parts of the page\">{links}</nav></header>\n\
         <main>\n{parts}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// A picture in a page.
pub(in crate::report) fn figure_html(figure: &Figure) -> String {
    let title = escaped(&figure.title);
    let named = format!("<svg role=\"img\" aria-label=\"{title}\" ");
    format!(
        "<figure>{}</figure>\n",
        figure.svg.replacen("<svg ", &named, 1)
    )
}

/// A table that the script lets people sort and filter.
pub(in crate::report) fn table_html(table: &Table, caption: &str, filter: bool) -> String {
    let class = |alignment: Alignment| match alignment {
        Alignment::Left => "l",
        Alignment::Right => "r",
    };
    let headings = table.columns.iter().map(|column| {
        let (class, heading) = (class(column.alignment), escaped(&column.heading));
        format!("<th scope=\"col\" class=\"{class}\">{heading}</th>")
    });
    let headings: String = headings.collect();
    let rows = table.rows.iter().map(|row| {
        let cells = row.iter().zip(&table.columns);
        let cells = cells.map(|(cell, column)| {
            format!(
                "<td class=\"{}\">{}</td>",
                class(column.alignment),
                escaped(cell)
            )
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    });
    let rows: String = rows.collect();
    let caption = match caption {
        "" => String::new(),
        caption => format!("<caption>{}</caption>", escaped(caption)),
    };
    let filter = if filter { " data-filter" } else { "" };
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table{filter}>{caption}<thead><tr>{headings}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n"
    )
}
