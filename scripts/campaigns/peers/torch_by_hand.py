"""PyTorch without autograd: the equations by hand, on its tensors, for any depth."""

import torch


def prepare(problem):
    X, Y = torch.from_numpy(problem.X), torch.from_numpy(problem.Y)
    lr, beta, L = problem.spec.lr, problem.spec.beta, len(problem.params) // 2
    W = [torch.from_numpy(problem.params[f"W{n}"].copy()) for n in range(1, L + 1)]
    b = [torch.from_numpy(problem.params[f"b{n}"].copy()) for n in range(1, L + 1)]
    V_W, V_b = [torch.zeros_like(w) for w in W], [torch.zeros_like(v) for v in b]

    def update(p, V, dp):
        V.mul_(beta).add_(dp, alpha=1 - beta)
        p.sub_(V, alpha=lr)

    def step(x, y):
        A = [x]
        for w, v in zip(W, b, strict=True):
            Z = torch.addmm(v, A[-1], w.T)
            A.append(torch.sigmoid(Z))
        dZ = torch.softmax(Z, dim=1).sub_(y).div_(len(x))
        for i in reversed(range(L)):
            dA = dZ @ W[i] if i else None
            update(W[i], V_W[i], dZ.T @ A[i])
            update(b[i], V_b[i], dZ.sum(dim=0))
            if i:
                dZ = dA.mul_(A[i]).mul_(1 - A[i])

    @torch.inference_mode()
    def train(epoch):
        order = torch.from_numpy(problem.orders[epoch - 1]).long()
        for rows in order.split(problem.spec.batch_size):
            step(X[rows], Y[rows])

    def parameters():
        return {
            f"{letter}{number}": p.numpy()
            for letter, ps in (("W", W), ("b", b))
            for number, p in enumerate(ps, start=1)
        }

    return train, parameters
