#[derive(Debug, Clone, PartialEq, Eq)] pub struct Options {}
