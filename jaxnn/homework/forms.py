"""The forms in which people write a backward pass: the names that they give to things.

These tables are the place to extend. Names are compared without case and underscores. Needs no
more than the standard library.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches


def plain(name: str) -> str:
    """A name without case, underscores and a common slip: W1, w_1 and w1 are one."""
    return name.replace("_", "").lower().replace("propog", "propag")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: What a backward pass is called, the most telling name first.
BACKWARD = _words(
    "backpropagate backwardpropagation backpropagation lmodelbackward modelbackward backwardprop "
    "backprop fullbackprop backwardpropagate backwardpass backward bprop computegradients "
    "computegradient computegrads gradients gradient grads grad getgradients calculategradients"
)

FORWARD = _words(
    "feedforward forwardpropagation forwardpropagate lmodelforward modelforward forwardprop "
    "forwardpass forward fprop propagateforward predictproba"
)

LOSS = _words(
    "computecost computeloss cost loss costfunction lossfunction crossentropy crossentropyloss "
    "crossentropycost calculateloss calculatecost getloss getcost computemulticlassloss mse "
    "mseloss "
    "cee bce calcloss calccost lossfn costfn categoricalcrossentropy binarycrossentropy objective"
)

INITIAL = _words(
    "initializeparameters initializeparametersdeep initialiseparameters initparams initparameters "
    "initializeparams initialiseparams initweights initializeweights initialize init createparams "
    "initnetwork initializenetwork"
)

#: Methods that make one step, where a class has no backward pass by itself.
TRAINING = _words("trainstep step update fit train learn partialfit trainonbatch")

#: What an argument stands for.
ARGUMENTS = {
    "X": _words("x inputs input data xbatch xtrain batchx images features a0 inp xb xdata"),
    "Y": _words(
        "y labels label targets target t ytrue ybatch ytrain batchy onehoty yonehot expected yb "
        "truth groundtruth yoh ydata actual desired"
    ),
    "params": _words(
        "params parameters param parameter theta model network net p weightsandbiases"
    ),
    "cache": _words(
        "cache caches memory store forwardcache stash intermediates fwd activationcache"
    ),
    "output": _words(
        "al alast afinal yhat ypred output outputs out probs prob predictions prediction predicted "
        "pred yhats ypredicted preds scores"
    ),
    "m": _words("m mbatch batchsize n nsamples numexamples nexamples numsamples samples msize"),
    "rate": _words("lr learningrate alpha eta step stepsize learnrate"),
    "l2": _words("lambd reg lambda l2 weightdecay regstrength lam regularization l2reg"),
    "keep": _words("keepprob pkeep keep"),
    "once": _words(
        "epochs epoch iterations iteration niter niters numiterations numepochs nepochs maxiter "
        "iters numiters steps maxepochs"
    ),
    "weights": _words("weights ws w weight"),
    "biases": _words("biases bs b bias"),
    "activations": _words("activations activation as"),
    "zs": _words("zs preactivations"),
}

#: What an argument of a constructor or of an initialiser stands for.
SIZES = {
    "n_x": _words(
        "nx ninput ninputs inputsize inputdim inputnodes nin inputlayersize d din nfeatures inputs "
        "numinputs inputneurons inputlayer inputunits inputlayerneurons numfeatures input i"
    ),
    "n_h": _words(
        "nh nhidden hiddensize hiddendim hiddennodes numhidden hiddenneurons h hiddenlayersize "
        "hiddenunits hidden hiddenlayerneurons neurons nhid hiddensizes1"
    ),
    "n_hs": _words("hiddendims hiddensizes hiddenlayers hiddenlayersizes"),
    "C": _words(
        "ny nclasses numclasses outputsize outputdim outputnodes nout noutput noutputs output k c "
        "numoutputs outputneurons classes outputlayer outputunits outputlayerneurons o nclass"
    ),
    "sizes": _words(
        "sizes layers layerdims layersdims layersizes dims architecture structure topology "
        "layerssizes layer nnarchitecture units"
    ),
}

#: What is put before or behind a parameter's name to name its gradient.
MARKS = re.compile(r"^(?:d|grads?|gradients?|delta|nabla|g)(?:for|of|wrt)?|(?:grads?|gradients?)$")


def role(name: str, table: Mapping[str, Iterable[str]] = ARGUMENTS) -> str:
    """What an argument of this name stands for; empty if the table has no such name.

    Of a name in several words, image_data or output_pred, all that are known must say the same.
    """
    exact = next((found for found, names in table.items() if plain(name) in names), "")
    words = re.findall(r"[a-z]{3,}", re.sub(r"([A-Z])", r"_\1", name).lower())
    if exact or len(words) < 2 or table is not ARGUMENTS:
        return exact
    said = {found for word in words for found, names in table.items() if word in names}
    return said.pop() if len(said) == 1 and said <= {"X", "Y", "output", "rate"} else ""


def rank(name: str, names: tuple[str, ...]) -> int:
    """The place of a name in a table; its length where it is not there."""
    return names.index(plain(name)) if plain(name) in names else len(names)


def near(name: str, names: Iterable[str]) -> str:
    """The name that was probably meant; empty if none is close."""
    return next(iter(get_close_matches(plain(name), list(names), 1, 0.8)), "")


def of_gradient(name: str, parameters: Mapping[str, str]) -> str:
    """The parameter whose gradient has this name: dW1, grad_W1, W1_grad, or W1 itself.

    `parameters` has the parameters by their plain names.
    """
    bare = plain(name.removeprefix("self."))
    if bare in parameters:
        return parameters[bare]
    stripped = MARKS.sub("", bare)
    return parameters.get(stripped, "")
