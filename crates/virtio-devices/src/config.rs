//! Accesses to a configuration space of bytes, at any offset and width.

use vm_contract::Width;

/// Reads from `config`; what lies beyond it is zero.
pub(crate) fn read(config: &[u8], offset: u64, width: Width) -> u64 {
    let mut bytes = [0; 8];
    let there = usize::try_from(offset)
        .ok()
        .and_then(|offset| config.get(offset..))
        .unwrap_or_default();
    for (target, source) in bytes.iter_mut().zip(there) {
        *target = *source;
    }
    width.truncate(u64::from_le_bytes(bytes))
}

/// Hands the bytes of `value` to `take`.
pub(crate) fn write(value: u64, width: Width, take: impl FnOnce(&[u8])) {
    let bytes = value.to_le_bytes();
    if let Some(bytes) = bytes.get(..1 << width.log2()) {
        take(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_beyond_the_end_are_zero() {
        let config = [1, 2, 3, 4, 5];
        assert_eq!(read(&config, 0, Width::Dword), 0x05_0403_0201);
        assert_eq!(read(&config, 3, Width::Word), 0x0504);
        assert_eq!(read(&config, 2, Width::Byte), 3);
        assert_eq!(read(&config, 5, Width::Half), 0);
        assert_eq!(read(&config, u64::MAX, Width::Word), 0);
    }

    #[test]
    fn writes_have_as_many_bytes_as_the_access() {
        write(0x1122_3344, Width::Half, |bytes| {
            assert_eq!(bytes, [0x44, 0x33]);
        });
        write(1, Width::Dword, |bytes| assert_eq!(bytes.len(), 8));
    }
}
