//! How a text fits a terminal: colours, columns, wrapped lines, tables, bars.
//!
//! Widths are those of a terminal's cells, not of bytes or characters. It must never colour what is
//! not a terminal, nor let a name move the cursor.

use std::io::IsTerminal;

use unicode_width::UnicodeWidthStr;

/// Narrowest terminal that lines are still wrapped for, in columns.
const NARROWEST: usize = 40;
/// Cells of a bar.
const BAR: usize = 20;

/// What the place can show.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// It is a terminal, and nobody said NO_COLOR.
    pub colour: bool,
    /// Its width; `None` for a file or a pipe, where lines stay whole.
    pub columns: Option<usize>,
    /// Its height.
    pub rows: Option<usize>,
    /// Only characters that every terminal has.
    pub ascii: bool,
}

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bold,
    Dim,
    Good,
    Wary,
    Bad,
}

impl Look {
    /// Of the process's own output.
    pub(super) fn here() -> Self {
        let out = std::io::stdout();
        if !out.is_terminal() {
            return Self { ascii: false, ..Self::default() };
        }
        let size = rustix::termios::tcgetwinsize(&out).ok();
        let said = |size: u16| Some(usize::from(size)).filter(|size| *size > 0);
        let variable = |name| std::env::var_os(name).filter(|value: &std::ffi::OsString| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
        let locale = locale.unwrap_or_default().to_string_lossy().to_lowercase();
        Self {
            colour: variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != "dumb"),
            columns: size.and_then(|size| said(size.ws_col)),
            rows: size.and_then(|size| said(size.ws_row)),
            ascii: !(locale.contains("utf-8") || locale.contains("utf8")),
        }
    }

    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Wary => "33",
            Tone::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line from a column on, wrapped at spaces; what follows stands two columns further in.
    pub(super) fn line(self, indent: usize, tone: Tone, text: &str) -> String {
        let columns = self.columns.map_or(usize::MAX, |columns| columns.max(NARROWEST));
        let mut lines: Vec<String> = Vec::new();
        let mut now = String::new();
        for word in text.split(' ') {
            let deep = indent + if lines.is_empty() { 0 } else { 2 };
            if !now.is_empty() && deep + width(&now) + 1 + width(word) > columns {
                lines.push(now.trim_end().to_owned());
                word.clone_into(&mut now);
            } else {
                if !now.is_empty() {
                    now.push(' ');
                }
                now.push_str(word);
            }
        }
        lines.push(now);
        let deep = |at: usize| " ".repeat(indent + if at == 0 { 0 } else { 2 });
        let painted = lines.iter().enumerate().map(|(at, line)| deep(at) + &self.paint(tone, line) + "\n");
        painted.collect()
    }

    /// A bar that is full at 1.
    pub(super) fn bar(self, part: f64, tone: Tone) -> String {
        let (full, empty) = if self.ascii { ("#", ".") } else { ("█", "░") };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BAR")]
        let cells = (part.clamp(0.0, 1.0) * 20.0).round() as usize;
        // Something is not nothing, and not yet enough is not all.
        let cells = match cells {
            0 if part > 0.0 => 1,
            BAR if part < 1.0 => BAR - 1,
            cells => cells.min(BAR),
        };
        self.paint(tone, &full.repeat(cells)) + &self.paint(Tone::Dim, &empty.repeat(BAR - cells))
    }
}

/// Cells a text takes.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its head.
    pub head: &'static str,
    /// Numbers stand to the right.
    pub right: bool,
    /// The lower, the earlier it goes where there is no room; 0 stays.
    pub spare: u8,
}

/// Rows under heads, a line each, without those columns for which there is no room.
pub(super) fn table(look: Look, indent: usize, columns: &[Column], rows: &[(Tone, Vec<String>)]) -> String {
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|(_, row)| row.get(at)).map(|cell| width(cell));
        cells.chain([width(columns[at].head)]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let room = look.columns.unwrap_or(usize::MAX);
    while indent + kept.iter().map(|at| widths[*at] + 2).sum::<usize>() > room.saturating_add(2) {
        let spare = kept.iter().copied().filter(|at| columns[*at].spare > 0);
        let Some(gone) = spare.min_by_key(|at| columns[*at].spare) else { break };
        kept.retain(|at| *at != gone);
    }
    let line = |cells: &dyn Fn(usize) -> String| {
        let cells = kept.iter().map(|at| {
            let cell = cells(*at);
            let fill = " ".repeat(widths[*at].saturating_sub(width(&cell)));
            if columns[*at].right { fill + &cell } else { cell + &fill }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let space = " ".repeat(indent);
    let mut text = space.clone() + &look.paint(Tone::Dim, &line(&|at| columns[at].head.to_owned())) + "\n";
    for (tone, row) in rows {
        let cells = line(&|at| row.get(at).cloned().unwrap_or_default());
        text += &(space.clone() + &look.paint(*tone, &cells) + "\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(columns: usize) -> Look {
        Look { columns: Some(columns), ..Look::default() }
    }

    #[test]
    fn lines_wrap_at_spaces_by_cells_and_only_in_a_terminal() {
        let text = "one two three four five six seven eight nine ten";
        assert_eq!(Look::default().line(2, Tone::Plain, text), format!("  {text}\n"));
        let told = narrow(40).line(2, Tone::Plain, text);
        assert_eq!(told, "  one two three four five six seven\n    eight nine ten\n");
        // Each of these takes two cells.
        let wide = narrow(40).line(0, Tone::Plain, "日本語日本語日本語 日本語日本語日本語 日本");
        assert_eq!(wide.lines().map(width).max(), Some(37), "{wide}");
        let painted = Look { colour: true, ..narrow(40) }.line(2, Tone::Bad, text);
        assert!(painted.lines().all(|line| line.ends_with("\x1b[0m")), "{painted:?}");
    }

    #[test]
    fn a_table_stands_in_columns_and_gives_up_what_it_can_spare() {
        let column = |head, right, spare| Column { head, right, spare };
        let columns = [column("ARM", false, 0), column("UPSTREAM", false, 1), column("N", true, 0)];
        let row = |name: &str, number: &str| (Tone::Plain, vec![name.into(), "u".into(), number.into()]);
        let rows = [row("日本", "7"), row("b", "1234")];
        let told = table(Look::default(), 1, &columns, &rows);
        assert_eq!(told, " ARM   UPSTREAM     N\n 日本  u            7\n b     u         1234\n");
        let told = table(narrow(14), 1, &columns, &rows);
        assert_eq!(told, " ARM      N\n 日本     7\n b     1234\n");
    }

    #[test]
    fn a_bar_is_full_only_when_it_is() {
        let look = Look { ascii: true, ..Look::default() };
        let rows = [(0.0, 0), (0.001, 1), (0.5, 10), (0.999, 19), (1.0, 20), (7.0, 20)];
        for (part, full) in rows {
            assert_eq!(look.bar(part, Tone::Good).matches('#').count(), full, "{part}");
        }
    }
}
