//! JSON as it passes: of objects at known places their members, of everything else where it ends.
//!
//! What is not JSON is read as what it most looks like. Documents may follow each other, with anything between them.

use super::json_number::JsonNumber;
use crate::byte_search;

/// The longest name that may be known, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// How many objects and arrays at known places stand in each other, at most.
const DEPTH_MAX: usize = 8;

/// Where the first byte is that is neither white space nor of a byte order mark, by which it is known what a body is.
#[inline]
pub(super) fn first_sign(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0xef | 0xbb | 0xbf))
}

/// A place in a document that is of interest.
pub(super) trait JsonPlace: Copy {
    /// The place of a document that is an object.
    const OBJECT: Self;

    /// The place of a document that is an array.
    const ARRAY: Self;

    /// The place of an object's member, or under an empty name of an array's elements.
    fn member(self, name: &[u8]) -> Option<Self>;

    /// Whether an object or an array at this place is read as a text, as it is spelt.
    #[inline]
    fn is_verbatim(self) -> bool {
        false
    }
}

/// What becomes of what stands there.
pub(super) trait JsonDocument {
    /// Where this is.
    type Place: JsonPlace;

    /// An object or an array begins at this place.
    #[inline]
    fn opened(&mut self, _place: Self::Place) {}

    /// It ends.
    #[inline]
    fn closed(&mut self, _place: Self::Place) {}

    /// A number that is a count.
    #[inline]
    fn count(&mut self, _place: Self::Place, _count: u64) {}

    /// True or false.
    #[inline]
    fn flag(&mut self, _place: Self::Place, _flag: bool) {}

    /// Nothing, as a word.
    #[inline]
    fn null(&mut self, _place: Self::Place) {}

    /// A text begins at this place.
    #[inline]
    fn text_began(&mut self, _place: Self::Place) {}

    /// The next bytes of it, without escapes.
    #[inline]
    fn text(&mut self, _place: Self::Place, _piece: &[u8]) {}
}

/// Where in a document the last byte was.
#[derive(Debug)]
pub(super) struct JsonScanner<Place> {
    /// The objects and arrays at known places around it, outermost first.
    open: [Option<Place>; DEPTH_MAX],
    /// Which of these are arrays, a bit each.
    arrays: u8,
    depth: u8,
    /// How many objects and arrays inside these are around it.
    unknown: u64,
    /// What the value means that is next, or has begun.
    member: Option<Place>,
    state: ScanState,
    escape: Escape,
    /// What of a name or of a word has been read.
    name: ShortText,
    number: JsonNumber,
}

/// All that a scanner knows where a text begins at a known place.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextBegin<Place> {
    open: [Option<Place>; DEPTH_MAX],
    arrays: u8,
    depth: u8,
    member: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    /// Between documents.
    Outside,
    /// Where an object's member begins.
    BeforeName,
    InName,
    AfterName,
    BeforeValue,
    InText,
    InNumber,
    InWord,
    AfterValue,
    /// In an object or an array that is at no known place.
    InUnknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    /// Of a character's number, so many digits are left.
    Number {
        digits: u8,
        value: u16,
    },
}

/// A text that is only of interest when it is short.
#[derive(Debug, Clone, Copy)]
struct ShortText {
    bytes: [u8; NAME_BYTES_MAX],
    /// None: it is too long.
    length: Option<u8>,
}

// === impl JsonScanner ===

impl<Place> Default for JsonScanner<Place> {
    #[inline]
    fn default() -> JsonScanner<Place> {
        JsonScanner {
            open: [const { None }; DEPTH_MAX],
            arrays: 0,
            depth: 0,
            unknown: 0,
            member: None,
            state: ScanState::Outside,
            escape: Escape::None,
            name: ShortText { bytes: [0; NAME_BYTES_MAX], length: Some(0) },
            number: JsonNumber::NEW,
        }
    }
}

impl<Place: JsonPlace> JsonScanner<Place> {
    /// Whether a part of a document ends with this byte, for those who want to know where words, objects and arrays at
    /// known places end: at the end of a part, or before the byte that ends it.
    #[inline]
    pub(super) fn ends_part(&self, byte: u8) -> bool {
        match self.state {
            _ if self.unknown > 0 => matches!(byte, b'}' | b']'),
            ScanState::InText | ScanState::InName => byte == b'"',
            ScanState::BeforeValue | ScanState::InWord => is_end(byte),
            _ => matches!(byte, b',' | b'}' | b']' | b':'),
        }
    }

    /// Whether no document has begun that has not ended.
    #[inline]
    pub(super) fn is_outside(&self) -> bool {
        self.state == ScanState::Outside
    }

    /// The document ends, wherever it is.
    #[inline]
    pub(super) fn reset(&mut self) {
        *self = JsonScanner::default();
    }

    /// The next bytes.
    #[inline]
    pub(super) fn feed(&mut self, bytes: &[u8], document: &mut impl JsonDocument<Place = Place>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.feed_to_text(rest, document);
        }
    }

    /// The next bytes, to where a text begins at a known place. What is left of them; nothing if none begins.
    #[inline]
    pub(super) fn feed_to_text<'a>(
        &mut self,
        bytes: &'a [u8],
        document: &mut impl JsonDocument<Place = Place>,
    ) -> &'a [u8] {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let begins_text = byte == b'"' && self.state == ScanState::BeforeValue && self.member.is_some();
            let taken = match self.state {
                ScanState::InName | ScanState::InText => self.quoted(byte, rest, document),
                ScanState::InUnknown => {
                    let taken = self.skip(rest);
                    self.verbatim(rest.get(..taken).unwrap_or_default(), document);
                    taken
                }
                ScanState::BeforeName => self.members(rest).unwrap_or_else(|| usize::from(self.step(byte, document))),
                _ => usize::from(self.step(byte, document)),
            };
            rest = rest.get(taken..).unwrap_or_default();
            if begins_text {
                break;
            }
        }
        rest
    }

    /// The place of the text that is being read, if it is known.
    #[inline]
    pub(super) fn text_place(&self) -> Option<Place> {
        self.member.filter(|_| self.state == ScanState::InText && self.unknown == 0)
    }

    /// Where a text begins that is at a known place.
    #[inline]
    pub(super) fn text_begin(&self) -> TextBegin<Place> {
        let JsonScanner { open, arrays, depth, member, .. } = *self;
        TextBegin { open, arrays, depth, member }
    }

    /// A text begins where another one did.
    #[inline]
    pub(super) fn begin_text(&mut self, begin: &TextBegin<Place>) {
        (self.open, self.arrays, self.depth, self.member) = (begin.open, begin.arrays, begin.depth, begin.member);
        (self.state, self.unknown, self.escape) = (ScanState::InText, 0, Escape::None);
    }

    /// The names and values of members that come whole, as nearly all do, as long as they are texts of no interest, and
    /// the name behind them: what the steps would make of their bytes one by one. Tells how many it took.
    #[inline]
    fn members(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut taken = 0;
        while let Some((name, rest)) = bytes.get(taken..).and_then(quoted) {
            let [b':', rest @ ..] = rest else { break };
            self.named(Some(name));
            taken = bytes.len() - rest.len();
            self.state = ScanState::BeforeValue;
            if self.member.is_some() {
                break;
            }
            let Some((_, [b',', rest @ ..])) = quoted(rest) else { break };
            taken = bytes.len() - rest.len();
            self.state = ScanState::BeforeName;
        }
        (taken > 0).then_some(taken)
    }

    /// Bytes inside a name or a text. Tells how many it took.
    #[inline]
    fn quoted(&mut self, byte: u8, bytes: &[u8], document: &mut impl JsonDocument<Place = Place>) -> usize {
        if self.escape != Escape::None {
            self.escaped(byte, document);
            return 1;
        }
        let length = byte_search::quote_or_escape(bytes).unwrap_or(bytes.len());
        let (piece, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        match rest.first() {
            // A name in one piece, as nearly all are, need not be kept.
            Some(b'"') if self.state == ScanState::InName && self.name.length == Some(0) => self.named(Some(piece)),
            ended => {
                self.piece(piece, document);
                match ended {
                    Some(b'"') => self.unquote(),
                    Some(_) => self.escape = Escape::Backslash,
                    None => return length,
                }
            }
        }
        length + 1
    }

    #[inline]
    fn escaped(&mut self, byte: u8, document: &mut impl JsonDocument<Place = Place>) {
        let (next, meant) = match (self.escape, byte) {
            (Escape::Number { digits, value }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit =
                    char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()).unwrap_or_default();
                let value = (value << 4) | digit;
                if digits > 1 {
                    (Escape::Number { digits: digits - 1, value }, None)
                } else {
                    (Escape::None, Some(value))
                }
            }
            (Escape::Backslash, b'u') => (Escape::Number { digits: 4, value: 0 }, None),
            (Escape::Backslash, b'n') => (Escape::None, Some(0x0a)),
            (Escape::Backslash, b't') => (Escape::None, Some(0x09)),
            (Escape::Backslash, b'r') => (Escape::None, Some(0x0d)),
            (Escape::Backslash, b'b') => (Escape::None, Some(0x08)),
            (Escape::Backslash, b'f') => (Escape::None, Some(0x0c)),
            (Escape::Backslash, sign) if sign.is_ascii() => (Escape::None, Some(u16::from(sign))),
            // A number that breaks off, or a sign of several bytes, of which the rest are a text's.
            (Escape::Number { .. }, b'"') => {
                self.escape = Escape::None;
                return self.unquote();
            }
            (Escape::Number { .. }, b'\\') => (Escape::Backslash, None),
            _ => (Escape::None, None),
        };
        self.escape = next;
        if let Some(meant) = meant {
            // Halves of characters beyond 16 bits are replaced.
            let meant = char::from_u32(u32::from(meant)).unwrap_or(char::REPLACEMENT_CHARACTER);
            self.piece(meant.encode_utf8(&mut [0; 4]).as_bytes(), document);
        }
    }

    #[inline]
    fn piece(&mut self, piece: &[u8], document: &mut impl JsonDocument<Place = Place>) {
        if self.state == ScanState::InName {
            self.name.push(piece);
        } else if self.unknown > 0 {
            self.verbatim(piece, document);
        } else if let (Some(place), false) = (self.member, piece.is_empty()) {
            document.text(place, piece);
        }
    }

    /// Bytes of an object or an array that may be read as a text.
    #[inline]
    fn verbatim(&self, piece: &[u8], document: &mut impl JsonDocument<Place = Place>) {
        if let Some(place) = self.member.filter(|place| place.is_verbatim() && !piece.is_empty()) {
            document.text(place, piece);
        }
    }

    /// A name or a text ends.
    #[inline]
    fn unquote(&mut self) {
        match self.state {
            ScanState::InName => {
                let ShortText { bytes, length } = self.name;
                self.named(length.and_then(|length| bytes.get(..usize::from(length))));
            }
            _ if self.unknown > 0 => self.state = ScanState::InUnknown,
            _ => self.state = ScanState::AfterValue,
        }
    }

    /// The name of a member has ended. None: it is too long to be known.
    #[inline]
    fn named(&mut self, name: Option<&[u8]>) {
        let name = name.filter(|name| !name.is_empty());
        self.member = self.around().zip(name).and_then(|(around, name)| around.member(name));
        self.state = ScanState::AfterName;
    }

    /// Bytes of what is at no known place. Tells how many it took.
    #[inline]
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let Some(length) = byte_search::quote_or_bracket(bytes) else {
            return bytes.len();
        };
        match bytes.get(length) {
            Some(b'"') => self.state = ScanState::InText,
            Some(b'{' | b'[') => self.unknown += 1,
            _ => {
                self.unknown -= 1;
                if self.unknown == 0 {
                    self.state = ScanState::AfterValue;
                }
            }
        }
        length + 1
    }

    /// One byte at a known place, outside of names and texts. False: it is to be looked at again.
    #[inline]
    fn step(&mut self, byte: u8, document: &mut impl JsonDocument<Place = Place>) -> bool {
        match self.state {
            ScanState::InNumber => {
                if self.number.take(byte) {
                    return true;
                }
                if let (Some(place), Some(count), true) = (self.member, self.number.count(), is_end(byte)) {
                    document.count(place, count);
                }
                self.state = ScanState::AfterValue;
                return false;
            }
            ScanState::InWord => {
                if byte.is_ascii_alphanumeric() {
                    self.name.push(&[byte]);
                    return true;
                }
                match (self.member, self.name.bytes(), is_end(byte)) {
                    (Some(place), Some(b"true"), true) => document.flag(place, true),
                    (Some(place), Some(b"false"), true) => document.flag(place, false),
                    (Some(place), Some(b"null"), true) => document.null(place),
                    _ => {}
                }
                self.state = ScanState::AfterValue;
                return false;
            }
            ScanState::Outside => match byte {
                b'{' => self.enter(Place::OBJECT, false, document),
                b'[' => self.enter(Place::ARRAY, true, document),
                _ => {}
            },
            _ if byte.is_ascii_whitespace() => {}
            _ if matches!(byte, b'}' | b']') => self.leave(document),
            ScanState::BeforeName if byte == b'"' => {
                self.name.length = Some(0);
                self.state = ScanState::InName;
            }
            ScanState::AfterName if byte == b':' => self.state = ScanState::BeforeValue,
            ScanState::BeforeValue if byte != b',' => return self.value(byte, document),
            _ if byte == b',' => self.next(),
            _ => {}
        }
        true
    }

    /// A value begins. False: its first byte is to be looked at again.
    #[inline]
    fn value(&mut self, byte: u8, document: &mut impl JsonDocument<Place = Place>) -> bool {
        match byte {
            b'{' | b'[' => match self.member {
                Some(place) if usize::from(self.depth) < DEPTH_MAX && !place.is_verbatim() => {
                    self.enter(place, byte == b'[', document);
                }
                _ => {
                    self.unknown = 1;
                    self.state = ScanState::InUnknown;
                }
            },
            b'"' => {
                if let Some(place) = self.member {
                    document.text_began(place);
                }
                self.state = ScanState::InText;
            }
            _ if JsonNumber::begins_with(byte) => {
                self.number = JsonNumber::NEW;
                self.state = ScanState::InNumber;
                return false;
            }
            _ if byte.is_ascii_alphanumeric() => {
                self.name.length = Some(0);
                self.state = ScanState::InWord;
                return false;
            }
            _ => {}
        }
        true
    }

    #[inline]
    fn enter(&mut self, place: Place, is_array: bool, document: &mut impl JsonDocument<Place = Place>) {
        if let Some(open) = self.open.get_mut(usize::from(self.depth)) {
            *open = Some(place);
            let bit = 1 << self.depth;
            self.arrays = if is_array { self.arrays | bit } else { self.arrays & !bit };
            self.depth += 1;
        }
        document.opened(place);
        self.next();
    }

    /// The next member or element may begin.
    #[inline]
    fn next(&mut self) {
        let innermost = self.depth.saturating_sub(1);
        let is_array = self.arrays & (1 << innermost) != 0;
        self.member = self.around().filter(|_| is_array).and_then(|around| around.member(b""));
        self.state = if is_array { ScanState::BeforeValue } else { ScanState::BeforeName };
    }

    /// The innermost object or array ends.
    #[inline]
    fn leave(&mut self, document: &mut impl JsonDocument<Place = Place>) {
        let around = self.around();
        self.depth = self.depth.saturating_sub(1);
        if let Some(place) = around {
            document.closed(place);
        }
        self.member = None;
        self.state = if self.depth == 0 { ScanState::Outside } else { ScanState::AfterValue };
    }

    #[inline]
    fn around(&self) -> Option<Place> {
        *self.open.get(usize::from(self.depth.checked_sub(1)?))?
    }
}

/// What stands between quotation marks at the beginning, if it ends there and has no escapes, and what comes behind.
#[inline]
fn quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'"', bytes @ ..] = bytes else { return None };
    match bytes.split_at_checked(byte_search::quote_or_escape(bytes)?)? {
        (inside, [b'"', rest @ ..]) => Some((inside, rest)),
        _ => None,
    }
}

/// Whether a number or a word may end before this.
#[inline]
fn is_end(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']')
}

// === impl ShortText ===

impl ShortText {
    #[inline]
    fn push(&mut self, piece: &[u8]) {
        let Some(length) = self.length.map(usize::from) else { return };
        self.length = match self.bytes.get_mut(length..length + piece.len()) {
            Some(room) => {
                room.copy_from_slice(piece);
                u8::try_from(length + piece.len()).ok()
            }
            None => None,
        };
    }

    #[inline]
    fn bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..usize::from(self.length?))
    }
}
