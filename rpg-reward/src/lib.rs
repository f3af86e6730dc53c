//! rpg-reward
