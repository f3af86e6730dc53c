//! TensorBoard's event files: a sequence of records, each a protobuf message `Event` between checksums.
//!
//! A record is the length of its message (u64, little-endian), the masked CRC-32C of those eight bytes, the message, and the
//! masked CRC-32C of the message. Of `Event` and `Summary` only the fields that are needed are written (TensorFlow's
//! `event.proto`, `summary.proto`, `tensor.proto`).

/// What an event says.
pub(super) enum What<'a> {
    /// The first event of a file.
    Version,
    /// A process begins: readers forget what other files say of this step and later ones.
    Start,
    /// Numbers by their names.
    Scalars(&'a [(String, f64)]),
    /// A text, as Markdown, under a name.
    Text(&'a str, &'a str),
}

/// An event as a record.
pub(super) fn record(seconds: f64, step: u64, what: &What<'_>) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, seconds);
    event.varint(2, step);
    match what {
        What::Version => event.bytes(3, b"brain.Event:2"),
        What::Start => event.message(7, |session| session.varint(1, START)),
        What::Scalars(scalars) => event.message(5, |summary| {
            for (name, value) in *scalars {
                summary.message(1, |entry| {
                    entry.bytes(1, name.as_bytes());
                    entry.float(2, *value as f32);
                });
            }
        }),
        What::Text(name, text) => event.message(5, |summary| {
            summary.message(1, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.message(8, |tensor| {
                    tensor.varint(1, DT_STRING);
                    tensor.message(2, |_no_dimensions| {});
                    tensor.bytes(8, text.as_bytes());
                });
                entry.message(9, |metadata| {
                    metadata.message(1, |plugin| plugin.bytes(1, b"text"));
                });
            });
        }),
    }
    framed(&event.0)
}

/// `SessionLog.START`.
const START: u64 = 1;
/// `DataType.DT_STRING`.
const DT_STRING: u64 = 7;

fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(message);
    record.extend(masked(crc32c(message)).to_le_bytes());
    record
}

/// A protobuf message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u64, value: u64) {
        self.raw_varint(field << 3);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.raw_varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.raw_varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// TensorFlow masks checksums, so that the checksum of bytes with checksums in them is worth something.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, the checksum with Castagnoli's polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    let step =
        |crc: u32, byte: &u8| crc >> 8 ^ CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize];
    !bytes.iter().fold(!0, step)
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of CRC-32C.
        for (bytes, crc) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (b"", 0),
        ] {
            assert_eq!(crc32c(bytes), crc, "{bytes:?}");
        }
    }

    #[test]
    fn an_event_is_the_message_that_protobuf_would_write() {
        let scalars = [("a/b".to_owned(), 0.5)];
        let record = record(1.5, 300, &What::Scalars(&scalars));
        let message = [
            &[0x09][..],
            &1.5f64.to_le_bytes(),
            &[0x10, 0xac, 0x02],
            &[0x2a, 12, 0x0a, 10, 0x0a, 3],
            b"a/b",
            &[0x15],
            &0.5f32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(record[..8], (message.len() as u64).to_le_bytes());
        assert_eq!(record[12..12 + message.len()], message);
        assert_eq!(record.len(), message.len() + 16);
    }
}
