//! rpg-losses
