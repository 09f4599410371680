//! Bytes compared eight at a time: what comes with the standard library for WebAssembly takes some ten instructions for
//! each, and filters compare names, keys and values all day.

const WORD: usize = size_of::<u64>();

/// Below zero: the first is less; zero: they are the same.
///
/// # Safety
/// Both have so many bytes.
#[inline]
pub(crate) unsafe fn compare(one: *const u8, other: *const u8, count: usize) -> i32 {
    let word = |at: usize| {
        // SAFETY: it is only asked for words that end where the bytes do, or before.
        let read = |bytes: *const u8| unsafe { u64::from_be(bytes.add(at).cast::<u64>().read_unaligned()) };
        (read(one), read(other))
    };
    let told = |(one, other): (u64, u64)| if one < other { -1 } else { i32::from(one > other) };
    if count < WORD {
        for at in 0..count {
            // SAFETY: it is one of the bytes.
            let (one, other) = unsafe { (*one.add(at), *other.add(at)) };
            if one != other {
                return i32::from(one) - i32::from(other);
            }
        }
        return 0;
    }
    let last = count - WORD;
    let mut at = 0;
    while at < last {
        let words = word(at);
        if words.0 != words.1 {
            return told(words);
        }
        at += WORD;
    }
    // It may have some in common with the one before, which are the same.
    told(word(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_the_standard_library_tells() {
        let bytes: Vec<u8> = (0..36).map(|at| at * 7).collect();
        for count in 0..bytes.len() {
            for at in 0..count {
                for change in [1, 0x80, 0xff] {
                    let one = &bytes[..count];
                    let mut other = one.to_vec();
                    other[at] ^= change;
                    // What comes behind the first difference means nothing.
                    other.iter_mut().skip(at + 1).step_by(3).for_each(|byte| *byte ^= 0x55);
                    // SAFETY: both have so many.
                    let told = unsafe { compare(one.as_ptr(), other.as_ptr(), count) };
                    assert_eq!(told.cmp(&0), one.cmp(&other), "{count} {at}");
                    // SAFETY: both have so many.
                    assert_eq!(unsafe { compare(one.as_ptr(), one.as_ptr(), count) }, 0);
                }
            }
        }
    }
}
