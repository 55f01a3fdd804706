/// The size of a page, in bytes.
pub const PAGE: usize = 4096;

/// A buffer whose content can be placed at any offset in a page.
///
/// Copies of large blocks depend on where source and destination lie modulo the page: on many
/// processors they are slow when the destination lies 1 to 16 bytes past the source. A benchmark
/// that leaves this to the allocator measures the allocator's mood.
#[derive(Debug)]
pub struct PageBuffer {
    memory: Vec<u8>,
    len: usize,
}

impl PageBuffer {
    /// A buffer for `len` bytes of content, all of them zero.
    pub fn new(len: usize) -> Self {
        let mut memory = vec![0; len + 2 * PAGE];
        // Every page is touched here, so that no run pays for it.
        memory.fill(1);
        memory.fill(0);
        Self { memory, len }
    }

    /// The content, `offset` bytes after the start of a page.
    ///
    /// # Panics
    ///
    /// If `offset` is not below [`PAGE`].
    pub fn at(&mut self, offset: usize) -> &mut [u8] {
        assert!(offset < PAGE, "the offset {offset} is not within a page");
        let start = self.memory.as_ptr().addr().wrapping_neg() % PAGE + offset;
        &mut self.memory[start..start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_lies_where_it_was_asked_for() {
        for len in [1, PAGE - 1, 64 * 1024] {
            let mut buffer = PageBuffer::new(len);
            for offset in [0, 1, 16, 2048, PAGE - 1] {
                let content = buffer.at(offset);
                assert_eq!(content.len(), len);
                assert_eq!(content.as_ptr().addr() % PAGE, offset);
            }
        }
    }
}
