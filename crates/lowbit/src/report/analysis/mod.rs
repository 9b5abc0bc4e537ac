//! What an analysis found, as a page that opens from disk, and as pictures and tables.

mod events;
mod figures;
mod graph;
mod page;
mod sentences;
mod tables;

use super::page::{Figure, NamedTable};
use super::table::Table;
use crate::analysis::RunAnalysis;
use crate::data::ImageSet;

use sentences::sentences;

/// An analysis with its pictures and tables.
#[derive(Debug)]
pub struct AnalysisReport<'a> {
    run: &'a RunAnalysis,
    figures: Vec<Figure>,
    tables: Vec<NamedTable>,
}

impl<'a> AnalysisReport<'a> {
    /// Draws what was found; `images` are those that were looked at.
    pub fn new(run: &'a RunAnalysis, images: &'a ImageSet) -> Self {
        Self {
            run,
            figures: figures::all(run, images),
            tables: tables::all(run),
        }
    }

    /// One HTML file that needs no other.
    pub fn html(&self) -> String {
        page::page(self)
    }

    /// Its pictures.
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// Its tables.
    pub fn tables(&self) -> &[NamedTable] {
        &self.tables
    }

    /// The sentences that it begins with.
    pub fn sentences(&self) -> Vec<String> {
        sentences(self.run)
    }

    fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    fn table(&self, name: &str) -> Option<&Table> {
        let found = self.tables.iter().find(|table| table.name == name);
        found.map(|found| &found.table)
    }
}
