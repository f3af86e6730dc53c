//! rpg-rollout
