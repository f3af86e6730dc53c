//! rpg-core
