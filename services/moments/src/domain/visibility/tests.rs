//! The table of cases of the rule.
