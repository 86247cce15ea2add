mod capacity;
mod rules;
