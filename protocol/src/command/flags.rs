//! The `flag` word of a header: which direction a frame goes and whether an answer is wanted.
//! Only two bits are defined; the others survive unread.

/// Bit 0: response. Bit 1: one-way request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub i32);

impl Flags {
    /// A request that wants exactly one answer.
    pub const REQUEST: Self = Self(0);
    /// An answer.
    pub const RESPONSE: Self = Self(1);
    /// A request that must never be answered.
    pub const ONEWAY: Self = Self(2);

    /// Whether the frame answers an earlier request. This bit alone decides; 3 is an answer too.
    pub const fn is_response(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the sender wants no answer.
    pub const fn is_oneway(self) -> bool {
        self.0 & 2 != 0
    }
}
