//! Text in columns.

/// One line for each row, with the columns below each other. The last one is as wide as it wants to be.
pub(crate) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(visible)).collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The text in one line and without what would command a terminal: some of it comes from servers.
pub(crate) fn visible(text: impl AsRef<str>) -> String {
    let character = |character: char| {
        if character.is_control() {
            character.escape_default().to_string()
        } else {
            character.to_string()
        }
    };
    text.as_ref().trim_end().chars().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bc", "d"], ["äöü", "", "e f"], ["", "", ""]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["a    bc  d", "äöü      e f", ""]);
    }

    #[test]
    fn nothing_in_it_commands_the_terminal() {
        assert_eq!(visible("a\x1b[2J\nb\r\n"), "a\\u{1b}[2J\\nb");
    }
}
