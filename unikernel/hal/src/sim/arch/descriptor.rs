//! The selectors by which the kernel tells the rings apart.

use x86_64::PrivilegeLevel;
use x86_64::structures::gdt::SegmentSelector;

/// The app's stack segment.
pub const USER_DATA: SegmentSelector = SegmentSelector::new(3, PrivilegeLevel::Ring3);
/// The app's 64-bit code segment.
pub const USER_CODE: SegmentSelector = SegmentSelector::new(4, PrivilegeLevel::Ring3);
