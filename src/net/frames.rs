//! Follows the frames of an HTTP/2 client just far enough to see a header block that does not end,
//! and a flood of frames that cost us more than the client.
//!
//! The protocol library holds such a block without a timer and without telling anybody, and answers
//! control frames and resets however many come. Only types, lengths and flags are looked at (RFC 9113
//! section 4.1); it must never judge what a frame means.

/// Length of the preface, which comes before any frame.
const PREFACE: u32 = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
/// Frames of one second that carry no request and no data, and can be needed at most.
pub const MOST_CONTROL: u32 = 1_000;
/// Streams a client may reset in one second, or make us reset by its errors.
pub const MOST_RESETS: u32 = 100;
/// What is said to a client of its own errors: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED,
/// FRAME_SIZE_ERROR (RFC 9113 section 7). Resets for any other reason are ours or an origin's.
const ITS_ERRORS: [u32; 4] = [1, 3, 5, 6];

/// Where in the frames a connection is.
#[derive(Debug)]
pub struct HeadWatch {
    head: [u8; HEAD],
    /// Bytes of the frame head received.
    have: usize,
    /// Bytes of the payload still to come.
    left: u32,
    /// Whether a header block has begun and not ended.
    block: bool,
    /// Whether the frame under way ends the block.
    ends: bool,
    /// Frames since the second began: control frames, resets.
    control: u32,
    resets: u32,
    sent: Sent,
}

/// Where in the frames that we send a connection is.
#[derive(Debug, Default)]
struct Sent {
    /// The frame head, and of a reset its code.
    head: [u8; HEAD + 4],
    have: usize,
    left: u32,
}

impl Sent {
    /// Takes the next bytes; gives how many resets among them the client's errors brought about.
    fn resets(&mut self, mut bytes: &[u8]) -> u32 {
        let mut found = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = bytes.len().min(self.left as usize);
                bytes = &bytes[taken..];
                self.left = self.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                continue;
            }
            let wanted = if self.have < HEAD { HEAD } else { self.head.len() };
            let taken = bytes.len().min(wanted - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            let [high, middle, low, kind, _, _, _, _, _, code @ ..] = self.head;
            if self.have == HEAD && kind != RST_STREAM {
                self.left = u32::from_be_bytes([0, high, middle, low]);
                self.have = 0;
            } else if self.have == self.head.len() {
                found += u32::from(ITS_ERRORS.contains(&u32::from_be_bytes(code)));
                self.have = 0;
            }
        }
        found
    }
}

impl Default for HeadWatch {
    fn default() -> Self {
        Self {
            head: [0; HEAD],
            have: HEAD,
            left: PREFACE,
            block: false,
            ends: false,
            control: 0,
            resets: 0,
            sent: Sent::default(),
        }
    }
}

impl HeadWatch {
    /// A second has passed.
    pub fn second(&mut self) {
        (self.control, self.resets) = (0, 0);
    }

    /// Whether more came in this second than any honest client sends.
    #[must_use]
    pub const fn is_flood(&self) -> bool {
        self.control > MOST_CONTROL || self.resets > MOST_RESETS
    }

    /// Takes the next bytes that we send: what a client makes us reset costs what its own resets do.
    pub fn wrote(&mut self, bytes: &[u8]) {
        self.resets = self.resets.saturating_add(self.sent.resets(bytes));
    }

    /// Takes the next bytes; gives whether the rest of a header block is awaited after them.
    pub fn read(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = bytes.len().min(self.left as usize);
                bytes = &bytes[taken..];
                self.left = self.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
            } else {
                // A frame head is seldom cut: take what is there.
                let start = if self.have == HEAD { 0 } else { self.have };
                let taken = bytes.len().min(HEAD - start);
                self.head[start..start + taken].copy_from_slice(&bytes[..taken]);
                self.have = start + taken;
                bytes = &bytes[taken..];
                if self.have == HEAD {
                    self.begin();
                }
            }
            if self.left == 0 && self.ends && self.have == HEAD {
                (self.block, self.ends) = (false, false);
            }
        }
        self.block
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, high, middle, low]);
        match kind {
            // Windows are opened as often as data flows.
            DATA | HEADERS | CONTINUATION | WINDOW_UPDATE => {}
            RST_STREAM => self.resets = self.resets.saturating_add(1),
            _ => self.control = self.control.saturating_add(1),
        }
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block = true;
            self.ends = flags & END_HEADERS != 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD + usize::from(length), 7);
        bytes
    }

    #[test]
    fn resets_for_its_own_errors_count_as_the_clients_however_they_are_cut() {
        let reset = |code: u32| {
            let mut bytes = frame(RST_STREAM, 0, 4);
            bytes[HEAD..].copy_from_slice(&code.to_be_bytes());
            bytes
        };
        // Settings, a head, data that looks like resets, and resets for every reason there is.
        let mut all =
            [frame(4, 0, 6), frame(HEADERS, END_HEADERS, 30), vec![0, 0, 26, DATA, 0, 0, 0, 0, 1]].concat();
        all.extend([reset(1), reset(1)].concat());
        (0..=0xd).for_each(|code| all.extend(reset(code)));
        all.extend(frame(DATA, 1, 0));
        all.extend(reset(3));
        for step in [1, 2, 5, 9, 13, 1_000] {
            let mut sent = Sent::default();
            let found: u32 = all.chunks(step).map(|piece| sent.resets(piece)).sum();
            assert_eq!(found, 5, "by {step}");
        }
        let mut watch = HeadWatch::default();
        (0..MOST_RESETS).for_each(|_| watch.wrote(&reset(3)));
        assert!(!watch.is_flood());
        watch.wrote(&reset(3));
        assert!(watch.is_flood());
    }

    #[test]
    fn a_block_is_open_until_its_last_byte_however_it_is_cut() {
        let mut all = vec![0; PREFACE as usize];
        // What is sent, and whether a block is open after each whole frame.
        let rows = [
            (frame(4, 0, 6), false),
            (frame(HEADERS, 0, 20), true),
            (frame(CONTINUATION, 0, 0), true),
            (frame(CONTINUATION, END_HEADERS, 5), false),
            (frame(0, 1, 200), false),
            (frame(HEADERS, END_HEADERS, 0), false),
            (frame(HEADERS, END_HEADERS | 1, 30), false),
        ];
        let mut ends = vec![(all.len(), false)];
        for (bytes, open) in &rows {
            all.extend_from_slice(bytes);
            ends.push((all.len(), *open));
        }
        for step in [1, 2, 7, 9, 10, 64] {
            let mut watch = HeadWatch::default();
            let mut done = 0;
            for piece in all.chunks(step) {
                let open = watch.read(piece);
                done += piece.len();
                if let Some((_, expected)) = ends.iter().find(|(end, _)| *end == done) {
                    assert_eq!(open, *expected, "{done} bytes by {step}");
                }
            }
            assert!(!watch.block);
        }
        let mut flood = HeadWatch::default();
        flood.read(&[0; PREFACE as usize]);
        for kind in [0_u8, WINDOW_UPDATE] {
            (0..5_000).for_each(|_| _ = flood.read(&frame(kind, 0, 4)));
        }
        (0..MOST_RESETS).for_each(|_| _ = flood.read(&frame(RST_STREAM, 0, 4)));
        assert!(!flood.is_flood());
        flood.read(&frame(RST_STREAM, 0, 4));
        assert!(flood.is_flood());
        flood.second();
        (0..=MOST_CONTROL).for_each(|_| _ = flood.read(&frame(6, 0, 8)));
        assert!(flood.is_flood());
        let mut half = HeadWatch::default();
        half.read(&[0; PREFACE as usize]);
        assert!(half.read(&frame(HEADERS, END_HEADERS, 20)[..15]), "half a frame is open");
        assert!(!half.read(&[7; 14]));
    }
}
