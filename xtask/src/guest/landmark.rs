//! A program that does nothing, at an address where nothing else is: whoever
//! watches the machine knows by it how far the guest has come.

/// The address of its first instruction. No usual place of a program, of its
/// stack or of what it maps is near, nor is any physical address.
pub(crate) const ENTRY: u64 = BASE + HEADERS as u64;

const BASE: u64 = 0x5a5a_5a00_0000;

/// `mov x8, #93; mov x0, #0; svc #0`: exit(0).
const CODE: [u32; 3] = [0xd280_0ba8, 0xd280_0000, 0xd400_0001];

/// The length of an ELF64 file's header and of one program header.
const FILE_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const HEADERS: u16 = FILE_HEADER + PROGRAM_HEADER;

/// Returns the program: an ELF file for AArch64 Linux, one segment that holds
/// all of it.
pub(super) fn program() -> Vec<u8> {
    let size = u64::from(HEADERS) + size_of_val(&CODE) as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // ET_EXEC, EM_AARCH64, version 1.
    add(&mut file, &[2, 183, 1, 0].map(u16::to_le_bytes));
    // The entry, the program headers, no section headers.
    let places = [ENTRY, FILE_HEADER.into(), 0];
    add(&mut file, &places.map(u64::to_le_bytes));
    // No flags; the headers' lengths and numbers.
    let headers = [0, 0, FILE_HEADER, PROGRAM_HEADER, 1, 0, 0, 0];
    add(&mut file, &headers.map(u16::to_le_bytes));
    // PT_LOAD, readable and executable.
    add(&mut file, &[1_u32, 5].map(u32::to_le_bytes));
    // From the file's start, twice the address, both lengths, the alignment.
    let segment = [0, BASE, BASE, size, size, 0x1_0000];
    add(&mut file, &segment.map(u64::to_le_bytes));
    add(&mut file, &CODE.map(u32::to_le_bytes));
    file
}

fn add<const N: usize>(file: &mut Vec<u8>, values: &[[u8; N]]) {
    file.extend_from_slice(values.as_flattened());
}

#[cfg(test)]
mod tests {
    use object::{Architecture, Object, ObjectKind, ObjectSegment};

    use super::*;

    #[test]
    fn it_is_a_program_of_three_instructions() {
        let program = program();
        let elf = object::File::parse(program.as_slice()).unwrap();
        assert_eq!(elf.kind(), ObjectKind::Executable);
        assert_eq!(elf.architecture(), Architecture::Aarch64);
        assert_eq!(elf.entry(), ENTRY);
        let segment = elf.segments().next().unwrap();
        let code = segment.data_range(ENTRY, 12).unwrap().unwrap();
        assert_eq!(code, CODE.map(u32::to_le_bytes).as_flattened());
    }
}
