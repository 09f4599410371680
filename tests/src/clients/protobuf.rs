//! Messages of protobuf written and read field by field, so that a test can send what no library would.

/// A message, as its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proto(pub Vec<u8>);

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtoValue {
    /// A number of variable length.
    Number(u64),
    /// A text, bytes, or a message.
    Bytes(Vec<u8>),
}

impl Proto {
    /// With a number in this field.
    #[must_use]
    pub fn number(mut self, tag: u32, number: u64) -> Self {
        self.varint(u64::from(tag) << 3);
        self.varint(number);
        self
    }

    /// With these bytes, or this text, in this field.
    #[must_use]
    pub fn bytes(mut self, tag: u32, bytes: impl AsRef<[u8]>) -> Self {
        self.varint(u64::from(tag) << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// With this message in this field.
    #[must_use]
    pub fn message(self, tag: u32, message: &Self) -> Self {
        self.bytes(tag, &message.0)
    }

    /// With an entry of a map from texts to texts.
    #[must_use]
    pub fn entry(self, tag: u32, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.message(tag, &Self::default().bytes(1, key).bytes(2, value))
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Its fields in their order.
    ///
    /// # Panics
    ///
    /// When it is no message, or has fields of other kinds.
    pub fn fields(&self) -> Vec<(u32, ProtoValue)> {
        let (mut rest, mut fields) = (self.0.as_slice(), Vec::new());
        while !rest.is_empty() {
            let head = read_varint(&mut rest);
            let value = match head & 7 {
                0 => ProtoValue::Number(read_varint(&mut rest)),
                2 => {
                    let length = usize::try_from(read_varint(&mut rest)).expect("a length");
                    let (bytes, after) = rest.split_at(length);
                    rest = after;
                    ProtoValue::Bytes(bytes.to_vec())
                }
                kind => panic!("a field of kind {kind}"),
            };
            fields.push((u32::try_from(head >> 3).expect("a tag"), value));
        }
        fields
    }

    /// The messages, texts or bytes in this field.
    pub fn all(&self, tag: u32) -> Vec<Self> {
        let of_tag = |(own, value)| match value {
            ProtoValue::Bytes(bytes) if own == tag => Some(Self(bytes)),
            _ => None,
        };
        self.fields().into_iter().filter_map(of_tag).collect()
    }

    /// The last message, text or bytes in this field; empty if there are none.
    pub fn get(&self, tag: u32) -> Self {
        self.all(tag).pop().unwrap_or_default()
    }

    /// The number in this field; zero if there is none.
    pub fn number_of(&self, tag: u32) -> u64 {
        let of_tag = |(own, value)| match value {
            ProtoValue::Number(number) if own == tag => Some(number),
            _ => None,
        };
        self.fields().into_iter().find_map(of_tag).unwrap_or_default()
    }

    /// It as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

fn read_varint(rest: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, after) = rest.split_first().expect("a number ends");
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}
