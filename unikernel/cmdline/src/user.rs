//! `user=`: whom the app runs as, by numbers or by names, which the image's `/etc/passwd` and `/etc/group` explain (passwd(5), group(5)).

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::ParseError;

/// What `user=` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum User {
    /// `1000:1000`; with one number, the group has the user's.
    Numbers(u32, u32),
    /// `www-data`, or with another group `www-data:adm`, which may be a number.
    Named(String, Option<String>),
}

/// Whom somebody is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The user's number.
    pub user: u32,
    /// The group's.
    pub group: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// Why there is no such user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownUser {
    /// `/etc/passwd` does not have the name.
    User,
    /// `/etc/group` does not have the group's.
    Group,
}

/// A number of a user or a group. The highest means "leave it" to system calls.
fn number(text: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(text).ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| is_number && id != u32::MAX)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['-', '+'])
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b":,/".contains(&byte))
}

impl User {
    /// Reads what is behind `user=`.
    pub(crate) fn parse(value: &str) -> Result<Self, ParseError> {
        let (user, group) = match value.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (value, None),
        };
        let numbers = number(user.as_bytes()).zip(number(group.unwrap_or(user).as_bytes()));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        match numbers {
            Some((user, group)) => Ok(Self::Numbers(user, group)),
            None if is_name(user) && !are_digits(user) && group.is_none_or(is_name) => {
                Ok(Self::Named(user.to_owned(), group.map(ToOwned::to_owned)))
            }
            None => {
                let expected = "a name, or numbers, such as `www-data` or `1000:1000`";
                Err(ParseError::BadValue("user", value.to_owned(), expected))
            }
        }
    }

    /// Who that is, where users and groups are these. A user who is named is in the groups that name him, too.
    pub fn find(&self, passwd: &[u8], groups: &[u8]) -> Result<Identity, UnknownUser> {
        let (name, group) = match self {
            Self::Numbers(user, group) => {
                return Ok(Identity { user: *user, group: *group, groups: Vec::new() });
            }
            Self::Named(name, group) => (name, group),
        };
        let entry = lines(passwd).find(|fields| fields.first() == Some(&name.as_bytes()));
        let field = |index: usize| entry.as_ref().and_then(|fields| number(fields.get(index)?));
        let (user, usual) = field(2).zip(field(3)).ok_or(UnknownUser::User)?;
        let group = match group {
            None => usual,
            Some(group) => group_number(groups, group.as_bytes()).ok_or(UnknownUser::Group)?,
        };
        let is_member = |fields: &Vec<&[u8]>| {
            fields
                .get(3)
                .is_some_and(|members| members.split(|&byte| byte == b',').any(|one| one == name.as_bytes()))
        };
        let groups = lines(groups).filter(is_member).filter_map(|fields| number(fields.get(2)?)).collect();
        Ok(Identity { user, group, groups })
    }
}

/// The number of a group, by its name or itself.
fn group_number(groups: &[u8], group: &[u8]) -> Option<u32> {
    let named = lines(groups).find(|fields| fields.first() == Some(&group));
    named.and_then(|fields| number(fields.get(2)?)).or_else(|| number(group))
}

/// The fields of each line.
fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b':').collect())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# nobody\nwww-data:x:33:34:www:/var/www:/bin/false\nodd:x:y:z::\nlast:x:7:8::";
    const GROUP: &[u8] =
        b"root:x:0:\nadm:x:4:syslog,www-data\nwww-data:x:34:\nssl:x:110:www-data\nbad:x::www-data\n";

    fn named(name: &str, group: Option<&str>) -> User {
        User::Named(name.to_owned(), group.map(str::to_owned))
    }

    #[test]
    fn users_are_numbers_or_names() {
        assert_eq!(User::parse("33:34"), Ok(User::Numbers(33, 34)));
        assert_eq!(User::parse("0"), Ok(User::Numbers(0, 0)));
        assert_eq!(User::parse("www-data"), Ok(named("www-data", None)));
        assert_eq!(User::parse("www-data:adm"), Ok(named("www-data", Some("adm"))));
        assert_eq!(User::parse("www-data:4"), Ok(named("www-data", Some("4"))));
        for value in ["", ":", "1:", "-1", "4294967295", "1:4294967295", "a b", "a:", "1:x", "a/b", "1:2:3"] {
            assert!(User::parse(value).is_err(), "{value}");
        }
    }

    #[test]
    fn names_are_explained_by_the_image() {
        let found = named("www-data", None).find(PASSWD, GROUP);
        assert_eq!(found, Ok(Identity { user: 33, group: 34, groups: vec![4, 110] }));
        let found = named("last", Some("adm")).find(PASSWD, GROUP);
        assert_eq!(found, Ok(Identity { user: 7, group: 4, groups: vec![] }));
        assert_eq!(named("last", Some("99")).find(PASSWD, GROUP).map(|found| found.group), Ok(99));
        assert_eq!(named("nobody", None).find(PASSWD, GROUP), Err(UnknownUser::User));
        assert_eq!(named("odd", None).find(PASSWD, GROUP), Err(UnknownUser::User));
        assert_eq!(named("last", Some("wheel")).find(PASSWD, GROUP), Err(UnknownUser::Group));
    }

    proptest! {
        #[test]
        fn any_bytes_are_users_or_none(passwd in ".{0,60}", group in ".{0,60}", name in "[a-c:]{1,3}") {
            if let Ok(user) = User::parse(&name) {
                let _ = user.find(passwd.as_bytes(), group.as_bytes());
                let line = alloc::format!("{name}:x:5:6:\n{passwd}");
                if let User::Named(_, None) = user {
                    prop_assert_eq!(user.find(line.as_bytes(), group.as_bytes()).map(|found| found.user), Ok(5));
                }
            }
        }
    }
}
