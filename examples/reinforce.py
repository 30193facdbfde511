"""Balance a pole with REINFORCE, on gymnasium's CartPole-v1: ``python examples/reinforce.py``.

An iteration is a step of the game, an epoch is an episode of unknown length. Custom events are fired at the start and
the end of episodes; the policy is updated at the end. The game is solved when the last 100 episodes had 475 steps on
average, of at most 500: the threshold of gymnasium for v1.

Measured with the default options on two CPU cores: solved after episode 1,125, with 475.4 steps on average, and 218,503
steps in total; 47 s of one core.
"""

import argparse
from collections import deque
from statistics import fmean

import gymnasium
import torch
from torch import nn
from torch.distributions import Categorical

from ignite_contrib.loggers import ProgressBar
from ignite_core.engine import Engine, EventEnum, Events

GAME = "CartPole-v1"


class EpisodeEvents(EventEnum):
    """Start and end of an episode."""

    EPISODE_STARTED = "episode_started"
    EPISODE_COMPLETED = "episode_completed"


def make_policy():
    """From an observation of four numbers to scores of the two actions."""
    return nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 2))


def discounted(rewards, gamma):
    """Discounted sum of the rewards from each step on."""
    sums, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + gamma * total
        sums.append(total)
    return torch.tensor(sums[::-1])


def main(options):
    """Play and train until the game is solved."""
    torch.set_num_threads(1)  # for such a small policy, more threads are slower
    torch.manual_seed(options.seed)
    game = gymnasium.make(GAME)
    game.action_space.seed(options.seed)
    policy = make_policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=options.lr)
    episode = []  # (observation, action, reward) of each step
    lengths = deque(maxlen=100)

    def play(engine, _):
        seen = engine.state.observation
        with torch.no_grad():
            action = Categorical(logits=policy(seen)).sample()
        observation, reward, is_lost, is_long_enough, _ = game.step(action.item())
        episode.append((seen, action, reward))
        engine.state.observation = torch.from_numpy(observation)
        if is_lost or is_long_enough:
            engine.terminate_epoch()
        return reward

    trainer = Engine(play)
    trainer.register_events(*EpisodeEvents)
    trainer.add_event_handler(Events.EPOCH_STARTED, trainer.fire_event, EpisodeEvents.EPISODE_STARTED)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, trainer.fire_event, EpisodeEvents.EPISODE_COMPLETED)

    @trainer.on(EpisodeEvents.EPISODE_STARTED)
    def begin(engine):
        episode.clear()
        observation, _ = game.reset(seed=options.seed if engine.state.epoch == 1 else None)
        engine.state.observation = torch.from_numpy(observation)

    @trainer.on(EpisodeEvents.EPISODE_COMPLETED)
    def learn(engine):
        observations, actions, rewards = zip(*episode, strict=True)
        returns = discounted(rewards, options.gamma)
        advantages = (returns - returns.mean()) / (returns.std() + 1e-6)
        chosen = Categorical(logits=policy(torch.stack(observations))).log_prob(torch.stack(actions))
        loss = -(chosen * advantages).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @trainer.on(EpisodeEvents.EPISODE_COMPLETED)
    def stop_when_solved(engine):
        lengths.append(len(episode))
        engine.state.metrics["steps"] = fmean(lengths)
        if len(lengths) == lengths.maxlen and fmean(lengths) >= game.spec.reward_threshold:
            print(f"\nsolved: {fmean(lengths):.1f} steps on average of episodes {engine.state.epoch - 99} to", end=" ")
            print(f"{engine.state.epoch}; {engine.state.iteration} steps in total")
            engine.terminate()

    @trainer.on(EpisodeEvents.EPISODE_COMPLETED(every=100))
    def report(engine):
        print(f"episode {engine.state.epoch}: the last {len(lengths)} had {fmean(lengths):.1f} steps on average")

    bar = ProgressBar(desc="Episode")
    bar.attach(trainer, ["steps"], event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)

    longest = game.spec.max_episode_steps
    trainer.run(max_epochs=options.episodes, epoch_length=longest, seed=options.seed)
    game.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=3000, help="largest number of episodes")
    parser.add_argument("--lr", type=float, default=3e-3, help="learning rate of Adam")
    parser.add_argument("--gamma", type=float, default=0.99, help="discount factor of rewards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="twenty episodes, as a test")
    options = parser.parse_args()
    if options.smoke:
        options.episodes = 20
    main(options)
