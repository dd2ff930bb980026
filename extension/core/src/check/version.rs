//! Versions of pg_keeper that meet: library and objects, this server and its partner.

use super::{Facts, Finding};
use crate::version::Version;
use alloc::format;

/// While one node is upgraded after the other, both protect each other; a difference that lasts is one that somebody forgot.
pub(super) fn versions(facts: &Facts) -> Finding {
    const NAME: &str = "version";
    let (ours, database) = (Version::OURS, &facts.recorder.database);
    if let Some(objects) = facts.recorder.objects.as_deref().filter(|objects| Version::parse(objects) != Some(ours)) {
        let detail = format!("pg_keeper {ours} is loaded, and its objects in \"{database}\" are of {objects}");
        let hint = if Version::parse(objects).is_some_and(|objects| objects > ours) {
            format!("Install pg_keeper {objects} on this server and restart it.")
        } else {
            format!("As superuser, on the primary, in {database}: ALTER EXTENSION pg_keeper UPDATE;")
        };
        return Finding::warning(NAME, detail, hint);
    }
    let Some(report) = &facts.partner.report else { return Finding::ok(NAME, format!("{ours}")) };
    let theirs = report.version;
    if theirs == ours {
        return Finding::ok(NAME, format!("{ours}, as on the partner"));
    }
    let (newer, place) = if theirs < ours { (ours, "on the partner") } else { (theirs, "on this server") };
    Finding::warning(
        NAME,
        format!("{ours}, and {theirs} on the partner; they protect each other all the same"),
        format!("Install pg_keeper {newer} {place} and restart it."),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{complaints, sound};
    use super::*;
    use crate::report::Role;
    use alloc::string::ToString;

    #[test]
    fn each_difference_says_where_to_install_what() {
        let ours = Version::OURS.to_string();
        let told = |theirs: Version, objects: &str| {
            let mut facts = sound(Role::Primary);
            facts.partner.report.as_mut().unwrap().version = theirs;
            facts.recorder.objects = Some(objects.to_string());
            complaints(&facts).pop().map(|finding| finding.hint)
        };
        assert_eq!(told(Version::OURS, &ours), None);
        assert_eq!(
            told(Version::FIRST, &ours),
            Some(format!("Install pg_keeper {ours} on the partner and restart it."))
        );
        let later = "Install pg_keeper 9.10.0 on this server and restart it.".to_string();
        assert_eq!(told(Version([9, 10, 0]), &ours), Some(later.clone()));
        let update = "As superuser, on the primary, in pg_state: ALTER EXTENSION pg_keeper UPDATE;";
        assert_eq!(told(Version::OURS, "0.1.0"), Some(update.to_string()));
        assert_eq!(told(Version::FIRST, "9.10.0"), Some(later));
    }

    #[test]
    fn from_another_database_the_objects_are_not_seen() {
        let mut facts = sound(Role::Standby);
        facts.recorder.objects = None;
        assert_eq!(complaints(&facts), []);
    }
}
