//! rpg-cli
