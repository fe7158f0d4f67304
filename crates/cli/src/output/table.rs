//! Tables as kubectl prints them: upper-case heads, columns three spaces apart, no lines.

use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Prints rows under heads to standard output.
pub(crate) fn print(heads: &[&str], rows: &[Vec<String>]) {
    crate::output::text(format_args!("{}", render(heads, rows)));
}

fn render(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(String::as_str));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3)).set_cell_alignment(CellAlignment::Left);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_three_spaces_apart() {
        let text = render(&["NAME", "AGE"], &[vec!["frontend".into(), "5s".into()], vec!["db".into(), "10s".into()]]);
        assert_eq!(text, "NAME       AGE\nfrontend   5s\ndb         10s\n");
    }
}
